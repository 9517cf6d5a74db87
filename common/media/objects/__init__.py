"""The media store in a bucket of an object store, by the library obstore, which is an extra."""
