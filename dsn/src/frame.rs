//! Length-prefixed frames on a stream: an unsigned varint (multiformats), then that many bytes.
//!
//! Nothing is believed of the length but that it is within the bound: memory grows with the bytes that have
//! really come, so a stranger who declares megabytes and sends none costs nothing.

use std::io;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use thiserror::Error;

/// Bytes of the longest length accepted: 2^28 - 1, more than any bound here.
const MAX_PREFIX: usize = 4;
/// A frame's buffer grows by this much at a time.
const STEP: usize = 64 * 1024;

/// Why a frame could not be read.
#[derive(Debug, Error)]
pub(crate) enum FrameError {
    /// Longer than the protocol allows.
    #[error("a frame of {len} bytes, {max} are allowed")]
    TooLong {
        /// The declared length.
        len: usize,
        /// The bound.
        max: usize,
    },
    /// The length is not a minimal varint of at most four bytes.
    #[error("the frame's length is not a varint of at most four bytes")]
    BadLength,
    /// The stream broke, or ended within a frame.
    #[error("the stream broke: {0}")]
    Io(#[from] io::Error),
}

/// Reads one frame of at most `max` bytes; `None` where the stream ends before it.
pub(crate) async fn read<S>(stream: &mut S, max: usize) -> Result<Option<Vec<u8>>, FrameError>
where
    S: AsyncRead + Unpin,
{
    let Some(len) = read_len(stream).await? else { return Ok(None) };
    if len > max {
        return Err(FrameError::TooLong { len, max });
    }
    read_body(stream, len).await.map(Some)
}

/// Reads the length alone, for those who choose the bound by it.
pub(crate) async fn read_len<S>(stream: &mut S) -> Result<Option<usize>, FrameError>
where
    S: AsyncRead + Unpin,
{
    let mut len = 0;
    for place in 0..MAX_PREFIX {
        let mut byte = [0];
        if stream.read(&mut byte).await? == 0 {
            return if place == 0 {
                Ok(None)
            } else {
                Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())
            };
        }
        len |= usize::from(byte[0] & 0x7f) << (7 * place);
        if byte[0] & 0x80 == 0 {
            // A last byte of zero says nothing: the same length written longer.
            return if byte[0] == 0 && place > 0 { Err(FrameError::BadLength) } else { Ok(Some(len)) };
        }
    }
    Err(FrameError::BadLength)
}

/// Reads the `len` bytes after a length that the caller has found to be within bounds.
pub(crate) async fn read_body<S>(stream: &mut S, len: usize) -> Result<Vec<u8>, FrameError>
where
    S: AsyncRead + Unpin,
{
    let mut body = Vec::new();
    while body.len() < len {
        let have = body.len();
        // Doubling keeps the copying linear, and memory within twice of what has come.
        let grow = have.max(STEP).min(len - have);
        body.reserve_exact(grow);
        body.resize(have + grow, 0);
        stream.read_exact(&mut body[have..]).await?;
    }
    Ok(body)
}

/// Writes one frame and flushes it.
pub(crate) async fn write<S>(stream: &mut S, body: &[u8]) -> io::Result<()>
where
    S: AsyncWrite + Unpin,
{
    let mut prefix = unsigned_varint::encode::usize_buffer();
    stream.write_all(unsigned_varint::encode::usize(body.len(), &mut prefix)).await?;
    stream.write_all(body).await?;
    stream.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::executor::block_on;
    use futures::io::Cursor;

    fn read_all(bytes: &[u8], max: usize) -> Result<Option<Vec<u8>>, FrameError> {
        block_on(read(&mut Cursor::new(bytes), max))
    }

    #[test]
    fn what_is_written_is_read() {
        for len in [0, 1, 127, 128, 300, STEP, STEP + 1, 3 * STEP + 7] {
            let body = vec![7; len];
            let mut stream = Cursor::new(Vec::new());
            block_on(write(&mut stream, &body)).unwrap();
            assert_eq!(read_all(stream.get_ref(), len).unwrap(), Some(body));
        }
    }

    #[test]
    fn the_end_of_the_stream_is_no_frame() {
        assert!(read_all(&[], 10).unwrap().is_none());
    }

    #[test]
    fn a_frame_over_the_bound_is_refused_before_it_is_read() {
        assert!(matches!(read_all(&[11, 1, 2], 10), Err(FrameError::TooLong { len: 11, max: 10 })));
    }

    #[test]
    fn an_oversized_or_padded_length_is_refused() {
        assert!(matches!(read_all(&[0xff, 0xff, 0xff, 0xff, 0x01], usize::MAX), Err(FrameError::BadLength)));
        assert!(matches!(read_all(&[0x81, 0x00, 9], 10), Err(FrameError::BadLength)));
    }

    #[test]
    fn a_stream_that_ends_within_a_frame_is_an_error() {
        assert!(matches!(read_all(&[0x81], 10), Err(FrameError::Io(_))));
        assert!(matches!(read_all(&[3, 1, 2], 10), Err(FrameError::Io(_))));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_a_frame_within_bounds_or_an_error(bytes: Vec<u8>) {
            if let Ok(Some(body)) = read_all(&bytes, 64) {
                proptest::prop_assert!(body.len() <= 64 && body.len() < bytes.len());
            }
        }
    }
}
