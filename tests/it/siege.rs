//! The real binary under siege: clients that are slow on purpose, floods, crowds, and stops and
//! faults in the midst of many. `MUSUBI_TEST_SCALE` of 20 is the full size; nothing is measured
//! to fail by its speed, what was measured is printed.

mod crowd;
mod faults;
mod heads;
mod http2;
mod readers;
mod stop;
mod wire;
mod witness;
