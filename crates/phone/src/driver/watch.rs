//! Word of changes to the host's addresses and routes: on Linux the kernel tells (rtnetlink), so
//! that a call can move at once; elsewhere they are looked at often.

use std::time::Duration;

/// An address seldom comes alone: its route follows, and what is told in between is not usable
/// yet. So long after the first word the host is looked at.
pub(super) const SETTLING: Duration = Duration::from_millis(20);

#[cfg(target_os = "linux")]
pub(super) use self::netlink::AddressWatch;
#[cfg(not(target_os = "linux"))]
pub(super) use self::polling::AddressWatch;

#[cfg(target_os = "linux")]
mod netlink {
    use std::io;
    use std::os::unix::net::UnixDatagram as StdDatagram;
    use std::time::Duration;

    use rustix::io::Errno;
    use rustix::net::netlink::SocketAddrNetlink;
    use rustix::net::{AddressFamily, SocketFlags, SocketType};
    use tokio::net::UnixDatagram;

    /// The groups RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_IFADDR and
    /// RTNLGRP_IPV6_ROUTE of rtnetlink(7), each the bit before its number.
    const GROUPS: u32 = 1 | 1 << 4 | 1 << 6 | 1 << 8 | 1 << 10;
    /// Word may be lost when very much of it comes; then this is how long a change goes unseen.
    const LOOK_SELDOM: Duration = Duration::from_secs(5);
    /// Where the kernel gives no such socket.
    const LOOK_OFTEN: Duration = Duration::from_millis(250);
    const NO_BUFFER: i32 = Errno::NOBUFS.raw_os_error();

    /// Waits for changes. A netlink socket is read as any other of datagrams.
    pub(in crate::driver) struct AddressWatch(Option<UnixDatagram>);

    impl AddressWatch {
        /// Begins to listen; must run inside a tokio runtime.
        pub(in crate::driver) fn new() -> Self {
            let opened = open();
            if let Err(error) = &opened {
                tracing::debug!(%error, "no rtnetlink: the addresses are looked at instead");
            }
            Self(opened.ok())
        }

        /// How often to look, whatever the kernel tells.
        pub(in crate::driver) fn interval(&self) -> Duration {
            if self.0.is_some() {
                LOOK_SELDOM
            } else {
                LOOK_OFTEN
            }
        }

        /// Ends when something has changed; it may be dropped before.
        pub(in crate::driver) async fn changed(&mut self) {
            let Some(socket) = &self.0 else {
                return std::future::pending().await;
            };
            // What it says does not matter: all is looked at anew.
            match socket.recv(&mut [0; 4096]).await {
                Ok(_) => {}
                // Word that was lost may have said anything.
                Err(error) if error.raw_os_error() == Some(NO_BUFFER) => {}
                Err(error) => {
                    tracing::debug!(%error, "rtnetlink has ended: the addresses are looked at");
                    self.0 = None;
                }
            }
        }
    }

    fn open() -> io::Result<UnixDatagram> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let family = AddressFamily::NETLINK;
        // Protocol 0 is NETLINK_ROUTE.
        let socket = rustix::net::socket_with(family, SocketType::RAW, flags, None)?;
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
        UnixDatagram::from_std(StdDatagram::from(socket))
    }
}

#[cfg(not(target_os = "linux"))]
mod polling {
    use std::time::Duration;

    /// Waits for changes.
    pub(in crate::driver) struct AddressWatch;

    impl AddressWatch {
        pub(in crate::driver) fn new() -> Self {
            Self
        }

        /// How often to look.
        pub(in crate::driver) fn interval(&self) -> Duration {
            Duration::from_millis(250)
        }

        /// Nothing tells here.
        pub(in crate::driver) async fn changed(&mut self) {
            std::future::pending().await
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::process::Command;
    use std::time::Duration;

    use super::AddressWatch;

    const INSIDE: &str = "RINGTRUE_TEST_IN_A_NAMESPACE";

    /// In a network namespace of its own, which needs no root where users may have one.
    #[test]
    fn a_new_address_is_told_at_once() {
        if std::env::var_os(INSIDE).is_some() {
            return inside();
        }
        let possible = Command::new("unshare").args(["-rn", "ip", "link"]).output();
        if !possible.is_ok_and(|done| done.status.success()) {
            println!("skipped: no network namespaces for users here");
            return;
        }
        let done = Command::new("unshare")
            .arg("-rn")
            .arg(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "driver::watch::tests::a_new_address_is_told_at_once",
            ])
            .args(["--nocapture"])
            .env(INSIDE, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stdout);
        assert!(done.status.success() && said.contains("was told"), "{said}");
    }

    fn inside() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut watch = AddressWatch::new();
            let quiet = tokio::time::timeout(Duration::from_millis(100), watch.changed()).await;
            assert!(quiet.is_err(), "nothing has changed yet");
            for change in ["add", "del"] {
                let done = Command::new("ip")
                    .args(["address", change, "192.0.2.77/32", "dev", "lo"])
                    .status();
                assert!(done.unwrap().success());
                let told = tokio::time::timeout(Duration::from_secs(2), watch.changed()).await;
                assert!(told.is_ok(), "{change}: nothing was told");
                while tokio::time::timeout(Duration::from_millis(50), watch.changed())
                    .await
                    .is_ok()
                {}
            }
        });
        println!("was told");
    }
}
