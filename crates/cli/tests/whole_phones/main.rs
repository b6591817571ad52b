//! Whole phones on a virtual Internet, in virtual time: nothing here sleeps or opens a socket.

mod budget;
mod calls;
mod gate;
mod stage;
