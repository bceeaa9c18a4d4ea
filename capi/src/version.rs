//! `MS_VERSION_*`: which version a program was compiled with, and which one it runs with.

use std::ffi::c_char;

/// Major version of the header.
pub const MS_VERSION_MAJOR: u32 = 0;
/// Minor version of the header.
pub const MS_VERSION_MINOR: u32 = 1;
/// Patch version of the header.
pub const MS_VERSION_PATCH: u32 = 0;
/// The header's version as one number, major * 1000000 + minor * 1000 + patch, for comparison with
/// ms_version_number().
pub const MS_VERSION_NUMBER: u32 =
    MS_VERSION_MAJOR * 1000000 + MS_VERSION_MINOR * 1000 + MS_VERSION_PATCH;

/// The version of the library that the program runs with, as MS_VERSION_NUMBER counts it. Any
/// thread.
#[unsafe(no_mangle)]
pub extern "C" fn ms_version_number() -> u32 {
    MS_VERSION_NUMBER
}

/// The version of the library that the program runs with, such as "0.1.0". Static, never NULL, not
/// to be freed. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ms_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_header_has_the_version_of_the_crate() {
        let parts = [super::MS_VERSION_MAJOR, super::MS_VERSION_MINOR, super::MS_VERSION_PATCH];
        assert_eq!(parts.map(|part| part.to_string()).join("."), env!("CARGO_PKG_VERSION"));
    }
}
