//! JOURNAL → THE WORLD. Each sink owns one cursor and one `step`.
