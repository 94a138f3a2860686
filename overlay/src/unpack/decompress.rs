//! A layer's compression.

use std::io::{self, BufReader, Read};

use serde::{Deserialize, Serialize};

/// How a layer's tar is compressed, as its media type says (OCI image spec, "Layer media types").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952, any number of members.
    Gzip,
    /// RFC 8878, any number of frames.
    Zstd,
}

/// What is read at a time.
const INPUT: usize = 128 << 10;

/// The largest window that a zstd frame may ask for, and so the decoder's memory: 128 MiB, what `zstd --ultra -22`
/// makes. Up to level 19, which is what images have, it is 8 MiB.
const WINDOW_LOG_MAX: u32 = 27;

/// The decompressed bytes. A stream that ends early or goes on after its end with something else gives an error.
pub(super) fn reader<'a>(
    input: impl Read + Send + 'a,
    compression: Compression,
) -> io::Result<Box<dyn Read + Send + 'a>> {
    Ok(match compression {
        Compression::None => Box::new(input),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(INPUT, input))),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(BufReader::with_capacity(INPUT, input))?;
            decoder.window_log_max(WINDOW_LOG_MAX)?;
            Box::new(decoder)
        }
    })
}
