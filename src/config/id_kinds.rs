//! Kinds of ids by which a request can name what somebody has made with the upstream's account, which all
//! tenants share.

/// One kind, called as the field is in which it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdKind {
    PreviousResponse,
    Conversation,
    ItemReference,
    File,
    VectorStore,
    Container,
    Prompt,
    Skill,
}

impl IdKind {
    pub const ALL: [Self; 8] = [
        Self::PreviousResponse,
        Self::Conversation,
        Self::ItemReference,
        Self::File,
        Self::VectorStore,
        Self::Container,
        Self::Prompt,
        Self::Skill,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::PreviousResponse => "previous_response_id",
            Self::Conversation => "conversation",
            Self::ItemReference => "item_reference",
            Self::File => "file_id",
            Self::VectorStore => "vector_store_ids",
            Self::Container => "container",
            Self::Prompt => "prompt",
            Self::Skill => "skill_id",
        }
    }
}

/// A set of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdKinds(u8);

impl IdKinds {
    pub fn add(&mut self, kind: IdKind) {
        self.0 |= 1 << kind as u8;
    }

    pub fn has(self, kind: IdKind) -> bool {
        self.0 & 1 << kind as u8 != 0
    }

    /// The first that is not among `allowed`.
    pub fn first_beyond(self, allowed: Self) -> Option<IdKind> {
        IdKind::ALL.into_iter().find(|kind| self.has(*kind) && !allowed.has(*kind))
    }
}
