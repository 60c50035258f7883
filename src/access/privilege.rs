//! The privileges of a grant.

/// What a grant permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// Write values.
    Encrypt = 1,
    /// Find values by equality.
    Search = 2,
    /// See masked values.
    Mask = 4,
    /// See plain values.
    Decrypt = 8,
    /// Flag paths of documents, for one account.
    Manage = 16,
}

impl Privilege {
    /// Every privilege.
    pub const ALL: [Self; 5] =
        [Self::Encrypt, Self::Search, Self::Mask, Self::Decrypt, Self::Manage];

    /// Its name in SQL.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Encrypt => "encrypt",
            Self::Search => "search",
            Self::Mask => "mask",
            Self::Decrypt => "decrypt",
            Self::Manage => "manage",
        }
    }

    /// The privilege of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|privilege| privilege.name() == name)
    }
}

/// A set of privileges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Privileges(u8);

impl Privileges {
    /// The privileges with those names; names that are no privilege are left out.
    pub fn from_names(names: &[String]) -> Self {
        names.iter().filter_map(|name| Privilege::from_name(name)).fold(Self(0), Self::with)
    }

    /// The set and one more.
    #[must_use]
    pub fn with(self, privilege: Privilege) -> Self {
        Self(self.0 | privilege as u8)
    }

    /// Both sets.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the privilege is in the set.
    pub const fn contains(self, privilege: Privilege) -> bool {
        self.0 & privilege as u8 != 0
    }
}
