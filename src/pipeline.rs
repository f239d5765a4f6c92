//! THE LOOP: arrivals, commands, deadlines → decode → engine → one commit → acknowledge.
