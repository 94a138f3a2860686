//! What the host lets a container have.
