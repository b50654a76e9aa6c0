//! Listening sockets: opened, described, accepted from, and tidied up.

use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::SocketFlags;
use socket2::{Domain, SockAddr, Socket, Type};

use super::address::{Bind, Peer, resolve};
use super::descriptor;
use super::stream::Stream;
use super::tls::Tls;

/// How listening sockets are opened.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// Connections that the kernel holds until they are accepted.
    pub backlog: u32,
    /// Let several processes listen on the same address (`SO_REUSEPORT`).
    pub reuse_port: bool,
    /// Permission bits of a Unix socket; `None` leaves them to the umask.
    pub socket_mode: Option<u32>,
}

/// Why an address could not be listened on.
#[derive(Debug)]
pub struct BindFailure {
    /// What was asked for, as written.
    pub bind: String,
    /// The kernel's or the resolver's answer.
    pub error: io::Error,
}

impl fmt::Display for BindFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bind, error } = self;
        match error.kind() {
            io::ErrorKind::AddrInUse => write!(
                f,
                "cannot listen on {bind}: the address is in use; stop the other server or choose another {}",
                if bind.starts_with("unix:") { "path" } else { "port (0 lets the system choose)" }
            ),
            io::ErrorKind::PermissionDenied => {
                write!(
                    f,
                    "cannot listen on {bind}: permission denied; ports below 1024 need privileges, paths a writable folder"
                )
            }
            io::ErrorKind::AddrNotAvailable => {
                write!(f, "cannot listen on {bind}: this machine has no such address")
            }
            _ => write!(f, "cannot listen on {bind}: {error}"),
        }
    }
}

/// Where a listener really is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// An IP address with the port that the kernel gave.
    Ip(SocketAddr),
    /// A path, or `@NAME` for an abstract one.
    Unix(PathBuf),
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => write!(f, "http://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What came of one attempt to accept.
#[derive(Debug)]
pub enum AcceptOutcome {
    /// A client.
    Client(Stream, Peer),
    /// No client waits.
    Empty,
    /// This client went away before it was accepted; ask again.
    Vanished,
    /// Descriptors or memory have run out: ask again when some are back.
    Exhausted(io::Error),
    /// The socket is of no use, for example because another process has shut it down: ask again later.
    Failed(io::Error),
}

/// Where clients are accepted, and what they speak. The socket is shared with other servers of the process.
#[derive(Debug)]
pub struct Listener {
    socket: Arc<ListeningSocket>,
    tls: Option<Arc<Tls>>,
}

/// One listening socket.
#[derive(Debug)]
struct ListeningSocket {
    socket: Socket,
    place: ListenAddress,
    // What it was opened for, with one address: the port may be 0, and a path is absolute.
    bind: Bind,
    file: Option<SocketFile>,
    // What the coming calls of `accept` meet instead of clients.
    #[cfg(test)]
    faults: std::sync::Mutex<std::collections::VecDeque<rustix::io::Errno>>,
}

/// The socket file that a listener made, which only it removes.
#[derive(Debug)]
struct SocketFile {
    // Absolute: the program may change its directory.
    path: PathBuf,
    // Device and inode: another server may have put its own file there.
    identity: (u64, u64),
    // A forked child has inherited the listener, but not the file.
    process: u32,
}

impl SocketFile {
    // Whether the path still names it: another server may have put its own file there.
    fn is_there(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.identity)
    }
}

/// A listening socket that a program passes on to the one that it executes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedSocket {
    /// What it was opened for: an address, an absolute path or a descriptor.
    pub bind: String,
    /// Its number.
    pub descriptor: i32,
    /// Device and inode of the socket file that goes with it.
    pub file: Option<(u64, u64)>,
}

impl Listener {
    /// Opens every socket that `binds` stand for, or none. Clients of one that has `Some` speak TLS.
    ///
    /// Sockets among `open` that listen where they are wanted are kept; each is used once.
    pub fn open_all(
        binds: &[(Bind, Option<Arc<Tls>>)],
        opening: &Opening,
        open: &[Arc<Self>],
    ) -> Result<Vec<Arc<Self>>, BindFailure> {
        let mut open: Vec<_> = open.iter().map(|listener| Arc::clone(&listener.socket)).collect();
        let mut listeners = vec![Vec::new(); binds.len()];
        // Ports that are asked for come first: the kernel must not choose one of them, nor may a bind with port 0 take its socket.
        let mut ordered: Vec<_> = listeners.iter_mut().zip(binds).collect();
        ordered.sort_by_key(|(_, (bind, _))| matches!(bind, Bind::Tcp { port: 0, .. }));
        for (listeners, (bind, tls)) in ordered {
            let failure = |error| BindFailure { bind: bind.to_string(), error };
            let opened = match bind {
                Bind::Tcp { host, port } => open_tcp(host, *port, opening, &mut open),
                Bind::Unix(path) => open_unix(path, opening, &mut open).map(|socket| vec![socket]),
                Bind::Descriptor(number) => adopt(*number, &mut open).map(|socket| vec![socket]),
            };
            let listener = |socket| Arc::new(Self { socket, tls: tls.clone() });
            *listeners = opened.map_err(failure)?.into_iter().map(listener).collect();
        }
        Ok(listeners.concat())
    }

    /// Takes over a socket that this process had opened before it executed the present program. The number stays open.
    pub fn from_passed(passed: &PassedSocket) -> Result<Self, BindFailure> {
        Ok(Self { socket: Arc::new(ListeningSocket::from_passed(passed)?), tls: None })
    }

    /// What [`Listener::from_passed`] needs.
    pub fn to_passed(&self) -> PassedSocket {
        self.socket.to_passed()
    }

    /// Whether both accept from the same socket.
    pub fn shares_socket(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.socket, &other.socket)
    }

    /// Whether its clients speak TLS, and how.
    pub fn tls(&self) -> Option<&Arc<Tls>> {
        self.tls.as_ref()
    }

    /// Its address, as a client writes it.
    pub fn url(&self) -> String {
        match (self.place(), &self.tls) {
            (ListenAddress::Ip(address), Some(_)) => format!("https://{address}"),
            (place, _) => place.to_string(),
        }
    }

    /// Where it listens.
    pub fn place(&self) -> &ListenAddress {
        &self.socket.place
    }

    /// The descriptor to be watched.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.socket.as_fd()
    }

    /// What the coming calls of `accept` meet instead of clients.
    #[cfg(test)]
    pub fn faults(&self) -> &std::sync::Mutex<std::collections::VecDeque<rustix::io::Errno>> {
        &self.socket.faults
    }

    /// Whether a client waits, as far as can be told without taking it. Never blocks.
    pub fn has_client(&self) -> bool {
        #[cfg(test)]
        if self.faults().lock().is_ok_and(|faults| !faults.is_empty()) {
            return true;
        }
        let mut wanted = [PollFd::new(&self.socket.socket, PollFlags::IN)];
        // What cannot be told, the next try to take one will tell.
        poll(&mut wanted, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).map_or(true, |ready| ready > 0)
    }

    /// Takes one waiting client, if there is one. Never blocks. `is_proxied`: a proxy's header comes before anything else.
    pub fn accept(&self, is_proxied: bool) -> AcceptOutcome {
        #[cfg(test)]
        if let Some(error) = self.faults().lock().ok().and_then(|mut faults| faults.pop_front()) {
            return refused(error.into());
        }
        match accept_socket(&self.socket.socket) {
            Ok((socket, peer)) => match &self.tls {
                None => AcceptOutcome::Client(Stream::Socket(socket), peer),
                // It fails without memory only, which costs this client its connection.
                Some(tls) => tls
                    .accept(socket, is_proxied)
                    .map_or(AcceptOutcome::Vanished, |stream| AcceptOutcome::Client(stream, peer)),
            },
            Err(error) => refused(error),
        }
    }
}

impl ListeningSocket {
    fn from_passed(passed: &PassedSocket) -> Result<Self, BindFailure> {
        let failure = |error| BindFailure { bind: passed.bind.clone(), error };
        let bind = Bind::parse(&passed.bind)
            .map_err(|problem| failure(io::Error::new(io::ErrorKind::InvalidInput, problem.to_string())))?;
        let (socket, place) = duplicate_listening(passed.descriptor).map_err(failure)?;
        let file = match (&bind, passed.file) {
            (Bind::Unix(path), Some(identity)) => {
                Some(SocketFile { path: path.clone(), identity, process: std::process::id() })
            }
            _ => None,
        };
        Ok(Self::new(socket, place, bind, file))
    }

    fn to_passed(&self) -> PassedSocket {
        PassedSocket {
            bind: self.bind.to_string(),
            descriptor: self.socket.as_raw_fd(),
            file: self.file.as_ref().map(|file| file.identity),
        }
    }

    fn new(socket: Socket, place: ListenAddress, bind: Bind, file: Option<SocketFile>) -> Self {
        Self {
            socket,
            place,
            bind,
            file,
            #[cfg(test)]
            faults: std::sync::Mutex::default(),
        }
    }

    // Whether it listens where `wanted`, which stands for one address, says.
    fn serves(&self, wanted: &Bind) -> bool {
        let is_there = match (wanted, &self.place) {
            // A port that the kernel chose may be asked for by its number.
            (Bind::Tcp { port, .. }, ListenAddress::Ip(address)) if *port != 0 => bind_of(*address) == *wanted,
            _ => self.bind == *wanted,
        };
        is_there && self.file.as_ref().is_none_or(SocketFile::is_there)
    }
}

fn refused(error: io::Error) -> AcceptOutcome {
    use rustix::io::Errno;
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::AGAIN) => AcceptOutcome::Empty,
        // accept(2): the client has gone, or Linux passes on an error of the network; try again.
        Some(
            Errno::CONNABORTED
            | Errno::INTR
            | Errno::PROTO
            | Errno::NETDOWN
            | Errno::NOPROTOOPT
            | Errno::HOSTDOWN
            | Errno::HOSTUNREACH
            | Errno::OPNOTSUPP
            | Errno::NETUNREACH,
        ) => AcceptOutcome::Vanished,
        Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => AcceptOutcome::Exhausted(error),
        _ => AcceptOutcome::Failed(error),
    }
}

impl Drop for ListeningSocket {
    fn drop(&mut self) {
        let Some(file) = &self.file else { return };
        if file.process == std::process::id() && file.is_there() {
            drop(fs::remove_file(&file.path));
        }
    }
}

// One system call gives a client that is non-blocking and close-on-exec; TCP_NODELAY comes from the listener.
#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
fn accept_socket(listener: &Socket) -> io::Result<(Socket, Peer)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (descriptor, address) = rustix::net::acceptfrom_with(listener, flags)?;
    let peer = address.and_then(|address| SocketAddr::try_from(address).ok()).map_or(Peer::Local, Peer::Ip);
    Ok((Socket::from(descriptor), peer))
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
fn accept_socket(listener: &Socket) -> io::Result<(Socket, Peer)> {
    let (socket, address) = listener.accept()?;
    socket.set_nonblocking(true)?;
    Ok((socket, address.as_socket().map_or(Peer::Local, Peer::Ip)))
}

/// Bytes that the kernel takes of a response before they can leave. Megabytes otherwise, of which a thousand clients that
/// read nothing make gigabytes that no connection of the machine has any more.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNSENT: u32 = 512 * 1024;

// What every connection inherits from its listener.
fn set_tcp_options(listener: &Socket) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    listener.set_tcp_notsent_lowat(UNSENT)?;
    listener.set_tcp_nodelay(true)
}

fn bind_of(address: SocketAddr) -> Bind {
    Bind::Tcp { host: address.ip().to_string(), port: address.port() }
}

// Takes the first socket that listens where it is wanted.
fn take(open: &mut Vec<Arc<ListeningSocket>>, wanted: &Bind) -> Option<Arc<ListeningSocket>> {
    let index = open.iter().position(|listener| listener.serves(wanted))?;
    Some(open.remove(index))
}

fn open_tcp(
    host: &str,
    port: u16,
    opening: &Opening,
    open: &mut Vec<Arc<ListeningSocket>>,
) -> io::Result<Vec<Arc<ListeningSocket>>> {
    let addresses = resolve(host, port)?;
    let several = addresses.len() > 1;
    // Two addresses of one name share one port, also when the kernel chooses it; another program may hold that
    // port on the second address, so a chosen port is worth a few tries.
    let mut tries = if port == 0 && several { 16 } else { 1 };
    loop {
        tries -= 1;
        match open_each(&addresses, opening, open) {
            Err(error) if tries > 0 && error.kind() == io::ErrorKind::AddrInUse => {}
            result => return result,
        }
    }
}

fn open_each(
    addresses: &[SocketAddr],
    opening: &Opening,
    open: &mut Vec<Arc<ListeningSocket>>,
) -> io::Result<Vec<Arc<ListeningSocket>>> {
    let mut opened: Vec<Arc<ListeningSocket>> = Vec::with_capacity(addresses.len());
    let mut last = None;
    for address in addresses {
        let (mut address, bind) = (*address, bind_of(*address));
        if let Some(listener) = take(open, &bind) {
            opened.push(listener);
            continue;
        }
        if let (0, Some(ListenAddress::Ip(first))) = (address.port(), opened.first().map(|first| &first.place)) {
            address.set_port(first.port());
        }
        match open_address(address, bind, opening, addresses.len() > 1) {
            Ok(listener) => opened.push(Arc::new(listener)),
            // A machine may have one IP family only: that is no error while the name's other address works.
            Err(error) if is_missing_family(&error) => last = Some(error),
            Err(error) => return Err(error),
        }
    }
    match (opened.is_empty(), last) {
        (true, Some(error)) => Err(error),
        (true, None) => Err(io::Error::new(io::ErrorKind::NotFound, "the host name has no address")),
        (false, _) => Ok(opened),
    }
}

fn is_missing_family(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}

fn open_address(
    address: SocketAddr,
    bind: Bind,
    opening: &Opening,
    one_of_several: bool,
) -> io::Result<ListeningSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A restarted server must not wait for the kernel to forget its predecessor's connections.
    socket.set_reuse_address(true)?;
    if opening.reuse_port {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(one_of_several || !address.ip().is_unspecified())?;
    }
    set_tcp_options(&socket)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(opening.backlog.try_into().unwrap_or(i32::MAX))?;
    socket.set_nonblocking(true)?;
    let place = ListenAddress::Ip(socket.local_addr()?.as_socket().unwrap_or(address));
    Ok(ListeningSocket::new(socket, place, bind, None))
}

fn open_unix(path: &Path, opening: &Opening, open: &mut Vec<Arc<ListeningSocket>>) -> io::Result<Arc<ListeningSocket>> {
    let abstract_name = path.to_str().and_then(|text| text.strip_prefix('@'));
    // The program may change its directory.
    let absolute = match abstract_name {
        Some(_) => path.to_owned(),
        None => std::path::absolute(path)?,
    };
    let bind = Bind::Unix(absolute.clone());
    if let Some(listener) = take(open, &bind) {
        return Ok(listener);
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    if let Some(name) = abstract_name {
        if !cfg!(any(target_os = "linux", target_os = "android")) {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "abstract Unix sockets exist on Linux only"));
        }
        socket.bind(&SockAddr::unix(format!("\0{name}"))?)?;
    } else {
        remove_stale(path)?;
        socket.bind(&SockAddr::unix(path)?)?;
        if let Some(mode) = opening.socket_mode {
            fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        }
    }
    socket.listen(opening.backlog.try_into().unwrap_or(i32::MAX))?;
    socket.set_nonblocking(true)?;
    let file = match abstract_name {
        Some(_) => None,
        None => fs::metadata(path).ok().map(|made| SocketFile {
            path: absolute,
            identity: (made.dev(), made.ino()),
            process: std::process::id(),
        }),
    };
    Ok(Arc::new(ListeningSocket::new(socket, ListenAddress::Unix(path.to_owned()), bind, file)))
}

/// A socket file without a listener is replaced; one of a running server is not.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => {
            let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
            // A living server whose backlog is full must not make us wait.
            probe.set_nonblocking(true)?;
            match probe.connect(&SockAddr::unix(path)?) {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
                _ => Err(rustix::io::Errno::ADDRINUSE.into()),
            }
        }
        Ok(_) => Err(io::Error::new(io::ErrorKind::AlreadyExists, "the path exists and is not a socket")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
fn is_listening(socket: &Socket) -> io::Result<bool> {
    socket.is_listener()
}

// Where the system cannot be asked, listening once more says the same: it fails for a socket that cannot.
#[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
fn is_listening(socket: &Socket) -> io::Result<bool> {
    socket.listen(i32::from(i16::MAX)).map(|()| true)
}

fn adopt(number: i32, open: &mut Vec<Arc<ListeningSocket>>) -> io::Result<Arc<ListeningSocket>> {
    let bind = Bind::Descriptor(number);
    if let Some(listener) = take(open, &bind) {
        return Ok(listener);
    }
    let (socket, place) = duplicate_listening(number)?;
    Ok(Arc::new(ListeningSocket::new(socket, place, bind, None)))
}

fn duplicate_listening(number: i32) -> io::Result<(Socket, ListenAddress)> {
    let socket = Socket::from(descriptor::duplicate(number)?);
    let invalid = |problem: &str| io::Error::new(io::ErrorKind::InvalidInput, problem);
    let kind = socket.r#type().map_err(|error| match error.raw_os_error() {
        Some(number) if number == rustix::io::Errno::NOTSOCK.raw_os_error() => {
            invalid("the descriptor is not a socket")
        }
        _ => error,
    })?;
    if kind != Type::STREAM {
        return Err(invalid(
            "the socket does not carry a byte stream; open one with SOCK_STREAM (systemd: ListenStream=)",
        ));
    }
    if !is_listening(&socket)? {
        return Err(invalid(
            "the descriptor is not a listening socket; call listen() before it is passed (systemd: Accept=no)",
        ));
    }
    socket.set_nonblocking(true)?;
    let address = socket.local_addr()?;
    let place = if let Some(ip) = address.as_socket() {
        set_tcp_options(&socket)?;
        ListenAddress::Ip(ip)
    } else if let Some(path) = address.as_pathname() {
        ListenAddress::Unix(path.to_owned())
    } else if let Some(name) = address.as_abstract_namespace() {
        ListenAddress::Unix(PathBuf::from(format!("@{}", String::from_utf8_lossy(name))))
    } else {
        ListenAddress::Unix(PathBuf::from("@"))
    };
    Ok((socket, place))
}
