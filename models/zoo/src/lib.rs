//! egraft's built-in models, as builders with a config.
