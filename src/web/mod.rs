//! JOURNAL → DUTY ROOM, commands back through the door.
