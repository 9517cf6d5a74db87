"""The history of an owner: its query, its cursors, its route."""
