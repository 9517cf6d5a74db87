"""What the painter paints with: words read, colours chosen, layers drawn in Pillow."""
