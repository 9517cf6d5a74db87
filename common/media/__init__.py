"""Where pictures and thumbnails lie: one port, an adapter on plain files."""
