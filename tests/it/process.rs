//! The program from outside: the real binary, killed, stopped, started twice, and its books read
//! by others.

mod auto_purchase;
mod books;
mod clear_text;
mod commands;
mod hang_up;
mod kill;
mod newcomer;
mod nodes;
mod purchase;
mod rotation;
mod stop;
