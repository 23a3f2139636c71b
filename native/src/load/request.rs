//! Bodies from templates. Pure; the randomness is a seeded generator of our own (xorshift64*), so
//! that two systems are asked for the same keys in the same order.

use bytes::{Bytes, BytesMut};

use crate::grpc::{FRAME_HEAD_BYTES, frame_head};
use crate::load::audience::STAMP_BYTES;
use crate::load::plan::{GROUPS, Operation, Order, Plan};

const POOL_BYTES: usize = 1 << 20;

pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        let mut random = Random(seed ^ 0x9E37_79B9_7F4A_7C15);
        if random.0 == 0 {
            random.0 = 1; // the one state that xorshift can't leave
        }
        random.draw();
        random
    }

    pub fn draw(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Below `bound`, which is not 0; evenly enough for keys.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.draw()) * u128::from(bound)) >> 64) as u64
    }
}

/// Chooses the next call and writes its body.
pub struct Requests {
    random: Random,
    pool: Vec<u8>,
    sequence: u64,
    keys: u64,
    key_digits: usize,
    order: Order,
    /// Where each operation's share ends; the last is the sum of the weights.
    shares: Vec<u64>,
}

impl Requests {
    pub fn new(plan: &Plan) -> Self {
        let mut random = Random::new(plan.seed);
        let mut pool = Vec::new();
        if plan.operations.iter().any(|operation| operation.noise.is_some()) {
            pool = (0..POOL_BYTES / 8).flat_map(|_| random.draw().to_le_bytes()).collect();
        }
        let mut sum = 0;
        let shares = plan.operations.iter().map(|operation| {
            sum += u64::from(operation.weight);
            sum
        });
        Requests {
            shares: shares.collect(),
            random,
            pool,
            sequence: 0,
            keys: plan.keys,
            key_digits: plan.key_digits,
            order: plan.order,
        }
    }

    /// The operation's number.
    pub fn choose(&mut self) -> usize {
        if self.shares.len() == 1 {
            return 0;
        }
        let point = self.random.below(*self.shares.last().expect("a plan has operations"));
        self.shares.partition_point(|&end| end <= point)
    }

    /// `stamp`: a put's number among those that are watched.
    pub fn body(&mut self, operation: &Operation, stamp: Option<u64>) -> Bytes {
        let number = match self.order {
            Order::Random => self.random.below(self.keys),
            Order::Sequential => {
                self.sequence += 1;
                (self.sequence - 1) % self.keys
            }
        };
        let mut body = BytesMut::with_capacity(operation.frame_bytes());
        body.extend_from_slice(&frame_head(operation.message.len(), false));
        body.extend_from_slice(&operation.message);
        let message = &mut body[FRAME_HEAD_BYTES..];
        for hole in &operation.keys {
            write_digits(&mut message[hole.offset..hole.offset + self.key_digits], number + hole.add);
        }
        if let Some(hole) = &operation.noise {
            let value = &mut message[hole.clone()];
            self.write_noise(value);
            if let Some(stamp) = stamp {
                value[..STAMP_BYTES].copy_from_slice(&stamp.to_be_bytes());
            }
        }
        if let Some(offset) = operation.groups {
            write_groups(&mut message[offset..offset + GROUPS], number);
        }
        body.freeze()
    }

    fn write_noise(&mut self, target: &mut [u8]) {
        for piece in target.chunks_mut(POOL_BYTES / 2) {
            let start = self.random.below((POOL_BYTES - piece.len()) as u64 + 1) as usize;
            piece.copy_from_slice(&self.pool[start..start + piece.len()]);
        }
    }
}

/// The lowest groups of a varint that goes on.
fn write_groups(target: &mut [u8], mut number: u64) {
    for group in target {
        *group = (number & 0x7f) as u8 | 0x80;
        number >>= 7;
    }
}

/// `number` in decimal with leading zeros; more digits than there is room for are cut off in front.
fn write_digits(target: &mut [u8], mut number: u64) {
    for digit in target.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}
