"""A fleet of simulated GPU slots that Darkroom or a peer keeps busy."""
