"""The ComfyUI dialect: workflows with placeholders, a queue with ids, progress by websocket."""
