//! The numbers by which descriptors are watched: whose each is, and which.

/// Whose a descriptor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Owner {
    /// The engine's: the tap, and what tells of the host.
    Engine,
    /// A TCP connection.
    Tcp,
    /// A published port of TCP, by its place among all that are published.
    TcpListener,
    /// UDP, published ports included.
    Udp,
    /// ICMP echo.
    Echo,
    /// Queries for names.
    Dns,
}

const OWNERS: [Owner; 6] = [Owner::Engine, Owner::Tcp, Owner::TcpListener, Owner::Udp, Owner::Echo, Owner::Dns];

/// One descriptor: whose, which of its owner's places, and how often that place had been taken before. What was told of
/// a descriptor that is closed by now is so never taken for another one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) owner: Owner,
    pub(crate) place: u32,
    pub(crate) generation: u32,
}

impl Token {
    const GENERATIONS: u32 = (1 << 24) - 1;

    /// As the kernel keeps it.
    pub(crate) fn encode(self) -> u64 {
        let generation = u64::from(self.generation & Self::GENERATIONS);
        (self.owner as u64) << 56 | generation << 32 | u64::from(self.place)
    }

    /// What the kernel has kept.
    pub(crate) fn decode(bits: u64) -> Self {
        let owner = OWNERS.get((bits >> 56) as usize).copied().unwrap_or(Owner::Engine);
        Self { owner, place: bits as u32, generation: (bits >> 32) as u32 & Self::GENERATIONS }
    }
}

/// Things by place: each keeps its place until it is taken out, and then the place gets a new generation.
#[derive(Debug)]
pub(crate) struct Places<T> {
    places: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Places<T> {
    pub(crate) const fn new() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Puts one in; gives its token.
    pub(crate) fn put(&mut self, owner: Owner, thing: T) -> Token {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push((0, None));
            (self.places.len() - 1) as u32
        });
        let (generation, empty) = &mut self.places[place as usize];
        *empty = Some(thing);
        Token { owner, place, generation: *generation }
    }

    pub(crate) fn get_mut(&mut self, token: Token) -> Option<&mut T> {
        let (generation, thing) = self.places.get_mut(token.place as usize)?;
        thing.as_mut().filter(|_| *generation == token.generation)
    }

    /// Takes one out.
    pub(crate) fn take(&mut self, token: Token) -> Option<T> {
        let (generation, thing) = self.places.get_mut(token.place as usize)?;
        let taken = thing.take_if(|_| *generation == token.generation)?;
        *generation = (*generation + 1) & Token::GENERATIONS;
        self.free.push(token.place);
        Some(taken)
    }

    /// Lets go of memory that nobody uses. Places stay as many as there have been: each has its generation.
    pub(crate) fn shrink(&mut self) {
        self.places.shrink_to_fit();
        self.free.shrink_to_fit();
    }

    /// All of them.
    pub(crate) fn iter(&self, owner: Owner) -> impl Iterator<Item = (Token, &T)> {
        self.places.iter().zip(0..).filter_map(move |((generation, thing), place)| {
            Some((Token { owner, place, generation: *generation }, thing.as_ref()?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_was_taken_is_another_one() {
        let mut places = Places::new();
        let a = places.put(Owner::Udp, 'a');
        let b = places.put(Owner::Udp, 'b');
        assert_eq!(Token::decode(b.encode()), b);
        assert_eq!(places.take(a), Some('a'));
        assert_eq!(places.take(a), None);
        let c = places.put(Owner::Udp, 'c');
        assert_eq!((c.place, places.len()), (a.place, 2));
        assert_eq!(places.get_mut(a), None);
        assert_eq!(places.get_mut(c), Some(&mut 'c'));
        assert_eq!(
            places.iter(Owner::Udp).map(|(token, thing)| (token, *thing)).collect::<Vec<_>>(),
            [(c, 'c'), (b, 'b')]
        );
    }
}
