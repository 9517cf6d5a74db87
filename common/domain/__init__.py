"""The rules of images and requests, without a clock or I/O."""
