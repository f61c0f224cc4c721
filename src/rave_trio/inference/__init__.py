"""Models and what runs them: the catalogue, the contract a model must meet, tiling, and the backends."""
