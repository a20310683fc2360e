// A server and a client whose sockets are made and used by rustix, which makes system calls by itself:
// `rusty serve ADDRESS:PORT` echoes, one connection after the other; `rusty send ADDRESS:PORT BYTES` sends so
// many, and compares what comes back.
use rustix::fd::AsFd;
use rustix::io::{read, write};
use rustix::net::{
    accept, bind, connect, getsockname, listen, shutdown, socket, sockopt, AddressFamily, Protocol, Shutdown,
    SocketAddr, SocketType,
};

fn make(address: &SocketAddr) -> rustix::io::Result<rustix::io::OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    socket(family, SocketType::STREAM, Protocol::default())
}

fn write_all<Fd: AsFd>(to: Fd, mut data: &[u8]) -> rustix::io::Result<()> {
    while !data.is_empty() {
        let count = write(&to, data)?;
        data = &data[count..];
    }
    Ok(())
}

fn serve(address: &SocketAddr) -> rustix::io::Result<()> {
    let listener = make(address)?;
    sockopt::set_socket_reuseaddr(&listener, true)?;
    bind(&listener, address)?;
    listen(&listener, 16)?;
    let mut buffer = vec![0u8; 1 << 16];
    loop {
        let connection = accept(&listener)?;
        loop {
            let count = read(&connection, &mut buffer)?;
            if count == 0 {
                break;
            }
            write_all(&connection, &buffer[..count])?;
        }
        shutdown(&connection, Shutdown::ReadWrite)?;
    }
}

fn send(address: &SocketAddr, bytes: usize) -> rustix::io::Result<()> {
    let connection = make(address)?;
    connect(&connection, address)?;
    println!("from {:?}", getsockname(&connection)?);
    let mut seed = 1u64;
    let mut block = vec![0u8; 1 << 14];
    let mut back = vec![0u8; 1 << 14];
    let mut same = 0;
    for _ in 0..bytes / block.len() {
        for byte in block.iter_mut() {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            *byte = (seed >> 56) as u8;
        }
        write_all(&connection, &block)?;
        let mut done = 0;
        while done < back.len() {
            let count = read(&connection, &mut back[done..])?;
            if count == 0 {
                return Ok(());
            }
            done += count;
        }
        if back == block {
            same += block.len();
        }
    }
    shutdown(&connection, Shutdown::Write)?;
    println!("{} bytes came back", same);
    Ok(())
}

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let address: SocketAddr = words[2].parse().expect("an address and a port");
    let result = match words[1].as_str() {
        "serve" => serve(&address),
        _ => send(&address, words[3].parse().expect("a number")),
    };
    if let Err(error) = result {
        println!("{}", error);
        std::process::exit(1);
    }
}
