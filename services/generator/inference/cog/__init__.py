"""Back end for cog containers."""
