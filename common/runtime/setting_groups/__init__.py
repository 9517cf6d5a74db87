"""The fields of the settings, a module for each subject."""
