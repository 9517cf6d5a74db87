"""The `darkroom` command: one module or package for each group of subcommands."""
