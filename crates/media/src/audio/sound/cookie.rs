//! PulseAudio's cookie. A server drops a client whose cookie has not 256 bytes, even where it lets
//! anybody in; libpulse therefore makes the file when it is missing. The library beneath cpal does
//! not, so a host on which no libpulse program ever ran would be without sound.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The length that the protocol wants.
const LENGTH: usize = 256;

/// Makes the cookie file of this user, unless there is one, or no server to show it to.
pub(super) fn ensure() {
    let has = |name| std::env::var_os(name).is_some();
    if has("PULSE_COOKIE") || !(has("PULSE_SERVER") || server_socket().is_some_and(|s| s.exists()))
    {
        return;
    }
    let Some(home) = std::env::var_os("HOME").map(PathBuf::from) else {
        return;
    };
    if let Err(error) = ensure_in(&home) {
        tracing::debug!(%error, "no PulseAudio cookie could be made");
    }
}

fn server_socket() -> Option<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR")?;
    Some(PathBuf::from(runtime).join("pulse/native"))
}

fn ensure_in(home: &Path) -> io::Result<()> {
    let folder = home.join(".config/pulse");
    let file = folder.join("cookie");
    if file.exists() || home.join(".pulse-cookie").exists() {
        return Ok(());
    }
    // A server that is started later takes this file for its secret, so it is one.
    let mut secret = [0; LENGTH];
    File::open("/dev/urandom")?.read_exact(&mut secret)?;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)?;
    let mut created = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(file)?;
    created.write_all(&secret)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_missing_cookie_is_made_once_and_for_the_user_alone() {
        let home = std::env::temp_dir().join(format!("ringtrue-cookie-{}", std::process::id()));
        fs::create_dir_all(&home).unwrap();
        ensure_in(&home).unwrap();
        let file = home.join(".config/pulse/cookie");
        let first = fs::read(&file).unwrap();
        assert_eq!(first.len(), LENGTH);
        assert!(first.iter().any(|byte| *byte != 0));
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600
        );
        ensure_in(&home).unwrap();
        assert_eq!(fs::read(&file).unwrap(), first);
        fs::remove_dir_all(home).unwrap();
    }
}
