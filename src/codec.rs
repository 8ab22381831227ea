//! The codec of the service's messages.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{BufferSettings, Codec};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

/// Initial capacity of the buffers of a call in bytes, which is enough for most messages. The buffers grow for larger
/// ones. The 8 KiB of tonic's default would be most of the memory that a call allocates.
const BUFFER_BYTES: usize = 512;

/// tonic's codec for protobuf, with smaller buffers.
pub struct SmallMessageCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for SmallMessageCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for SmallMessageCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(buffers())
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(buffers())
    }
}

/// Returns buffers of [`BUFFER_BYTES`]. The second number is the size at which a part of a stream of messages is sent,
/// which does not apply to single messages.
fn buffers() -> BufferSettings {
    BufferSettings::new(BUFFER_BYTES, BUFFER_BYTES)
}
