"""The vocabulary of images and requests: pure functions and models, without a clock or I/O."""
