//! The program from outside: the real binary, killed, stopped, started twice, and its books read
//! by others.

mod auto_purchase;
mod books;
mod clear_text;
mod commands;
mod hang_up;
mod invoice;
mod kill;
mod newcomer;
mod nodes;
mod plan;
mod purchase;
mod refund;
mod rotation;
mod shop;
mod stop;
