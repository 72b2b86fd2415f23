//! Switches off Nagle's algorithm on connections to the database.
//!
//! sqlx 0.9.0 does not (its issue #4335), and offers no way to its sockets. A statement longer than
//! one TLS record then waits 40 ms for an acknowledgement that the server delays. Until a release
//! mends this, a new connection is looked up among the process's own open files (on Linux, where
//! they can be listed) and set by a duplicate of its descriptor. Remove this module then.

use std::net::TcpStream;
use std::os::fd::OwnedFd;

use filedescriptor::FileDescriptor;

/// Sets `TCP_NODELAY` on every connection of this process to a port. Says on how many it was off.
pub fn set_for_port(port: u16) -> usize {
    let Ok(files) = std::fs::read_dir("/proc/self/fd") else { return 0 };
    let numbers: Vec<i32> = files
        .filter_map(|file| {
            let file = file.ok()?;
            let link = std::fs::read_link(file.path()).ok()?;
            let is_socket = link.to_str()?.starts_with("socket:");
            file.file_name().to_str()?.parse().ok().filter(|_| is_socket)
        })
        .collect();
    numbers.into_iter().filter(|number| set(*number, port) == Some(true)).count()
}

/// Whether it was off and is on now; none for what is no connection to the port.
fn set(number: i32, port: u16) -> Option<bool> {
    let socket = FileDescriptor::dup(&number).ok()?.as_file().ok()?;
    let socket = TcpStream::from(OwnedFd::from(socket));
    if socket.peer_addr().ok()?.port() != port {
        return None;
    }
    let was_off = !socket.nodelay().ok()?;
    if was_off {
        socket.set_nodelay(true).ok()?;
    }
    Some(was_off)
}
