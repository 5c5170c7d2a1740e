//! Lessons: see `examples/` beside this file.
