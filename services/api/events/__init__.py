"""The live events of the api: reader, deduplication, queue positions, websockets."""
