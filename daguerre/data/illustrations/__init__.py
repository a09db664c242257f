"""Thousands of things in up to eleven styles of drawing, from freely licensed sets of emoji and clip art."""
