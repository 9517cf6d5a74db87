"""The `darkroom` command: one module for each group of subcommands."""
