"""Models of transformers with random parameters: nothing is downloaded, nothing is kept between calls."""
