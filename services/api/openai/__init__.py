"""OpenAI's Images API, under `/openai/v1`, with nothing of Darkroom's own contract mixed in."""
