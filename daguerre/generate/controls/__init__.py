"""What steers a drawing from outside of its prompt: other networks, pictures, regions."""
