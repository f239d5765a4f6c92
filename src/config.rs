//! FILES → ONE VALIDATED CONFIG. gateway.toml, the site plan, the profiles; all problems at once.
