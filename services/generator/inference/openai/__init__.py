"""Back end for servers with OpenAI's route for images."""
