//! Whole phones on a virtual Internet, in virtual time: nothing here sleeps or opens a socket.

mod aggressive;
mod budget;
mod calls;
mod families;
mod foreign;
mod foreign_callees;
mod foreign_callers;
mod gate;
mod hammer;
mod interfaces;
mod names;
mod peers;
mod ports;
mod relay;
mod relay_budget;
mod restart;
mod stage;
mod survive;
mod talk;
mod tcp;
mod tls;
mod trickle;
mod turn_streams;
mod warm;
