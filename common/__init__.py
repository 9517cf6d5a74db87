"""Words, ports and adapters that every service stands on; nothing here knows a service."""
