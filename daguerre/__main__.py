"""`python -m daguerre` is `daguerre`; torchrun starts it so."""

from .cli.main import main

if __name__ == "__main__":
    main()
