"""Back end for servers with routes under `/sdapi/v1`: A1111, Forge, SD.Next, stable-diffusion.cpp."""
