//! The mend of the database driver's sockets.

use std::net::{TcpListener, TcpStream};

use musubi::nodelay::set_for_port;

#[test]
fn a_connection_to_the_port_no_longer_waits_to_fill_its_packets() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    assert!(!stream.nodelay().unwrap());

    assert_eq!(set_for_port(port), 1);

    assert!(stream.nodelay().unwrap());
    assert_eq!(set_for_port(port), 0);
}
