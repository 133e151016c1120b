//! What backstay takes over from monogon's and wormhole's supervisors, row by row.
