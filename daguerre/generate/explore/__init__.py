"""Many pictures of one wish: grids over any field, prompt matrices, prompts from files, travels and films."""
