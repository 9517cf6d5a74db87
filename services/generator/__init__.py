"""The generator: it consumes commands and has an inference service paint their images."""
