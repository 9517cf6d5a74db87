"""The marks that say in a picture's file how it was made."""
