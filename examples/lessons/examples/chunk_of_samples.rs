//! How a run of samples becomes a few bytes.
//!
//! A scrape every 15 seconds makes times whose difference never changes, and most values differ from the one before in few
//! bits. An XOR chunk writes one bit for "the same difference" and one for "the same value".

use lgtm_core::DecodeError;
use lgtm_tsdb::chunk::{Encoding, XorAppender, XorIter};

fn main() -> Result<(), DecodeError> {
    let mut chunk = XorAppender::new();
    let mut requests = 0.0;
    for scrape in 0..120 {
        requests += f64::from(scrape % 3);
        chunk.append(1_700_000_000_000 + i64::from(scrape) * 15_000, requests);
    }

    // 120 samples of 16 bytes each would be 1,920 bytes.
    let encoded = chunk.snapshot();
    assert_eq!(encoded.encoding, Encoding::Xor);
    assert!(encoded.data.len() < 300, "{} bytes", encoded.data.len());

    // What comes out is what went in, to the bit.
    let mut samples = XorIter::new(&encoded.data)?;
    let first = samples.next_sample()?.expect("the chunk has samples");
    assert_eq!((first.t_ms.get(), first.value), (1_700_000_000_000, 0.0));
    let mut count = 1;
    while samples.next_sample()?.is_some() {
        count += 1;
    }
    assert_eq!(count, 120);

    // A chunk can be taken up again where it ended, for instance after a restart.
    let mut resumed = XorAppender::resume(&encoded.data)?;
    resumed.append(1_700_000_000_000 + 120 * 15_000, requests);
    assert_eq!(resumed.sample_count(), 121);
    Ok(())
}
