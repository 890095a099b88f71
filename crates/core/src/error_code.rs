//! Pure: Kafka's error codes, the numbers that clients branch on.

use std::fmt;

macro_rules! error_codes {
    ($($code:literal $name:ident $kafka:literal $retriable:literal $text:literal;)*) => {
        /// A Kafka error code. "No error" (0) is not one of them: that is `Ok`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $(#[doc = $text] $name = $code,)*
        }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The number on the wire.
            #[must_use]
            pub fn code(self) -> i16 {
                match self { $(Self::$name => $code,)* }
            }

            /// The error with this number. `None` for 0 and for numbers that Kafka has not given.
            #[must_use]
            pub fn from_code(code: i16) -> Option<Self> {
                match code { $($code => Some(Self::$name),)* _ => None }
            }

            /// Kafka's name of the error.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $kafka,)* }
            }

            /// Whether the same request may succeed later.
            #[must_use]
            pub fn is_retriable(self) -> bool {
                match self { $(Self::$name => $retriable,)* }
            }

            /// What it means, in a sentence.
            #[must_use]
            pub fn text(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

error_codes! {
    -1 UnknownServer "UNKNOWN_SERVER_ERROR" false "The node met an unexpected error; its log has the details.";
    1 OffsetOutOfRange "OFFSET_OUT_OF_RANGE" false "The offset is outside of the partition's log.";
    2 CorruptMessage "CORRUPT_MESSAGE" true "The batch fails its checksum or is otherwise damaged.";
    3 UnknownTopicOrPartition "UNKNOWN_TOPIC_OR_PARTITION" true "The topic or partition does not exist here.";
    4 InvalidFetchSize "INVALID_FETCH_SIZE" false "The fetch size is invalid.";
    5 LeaderNotAvailable "LEADER_NOT_AVAILABLE" true "The partition has no leader at the moment.";
    6 NotLeaderOrFollower "NOT_LEADER_OR_FOLLOWER" true "This node is not the partition's leader or a replica of it.";
    7 RequestTimedOut "REQUEST_TIMED_OUT" true "The request timed out; it may still take effect.";
    8 BrokerNotAvailable "BROKER_NOT_AVAILABLE" false "The node is not available.";
    9 ReplicaNotAvailable "REPLICA_NOT_AVAILABLE" true "The replica is not available.";
    10 MessageTooLarge "MESSAGE_TOO_LARGE" false "The batch is larger than the topic's max.message.bytes.";
    12 OffsetMetadataTooLarge "OFFSET_METADATA_TOO_LARGE" false "The metadata of a committed offset is too large.";
    13 NetworkException "NETWORK_EXCEPTION" true "The connection was lost before the answer came.";
    14 CoordinatorLoadInProgress "COORDINATOR_LOAD_IN_PROGRESS" true "The coordinator is still loading the group.";
    15 CoordinatorNotAvailable "COORDINATOR_NOT_AVAILABLE" true "The coordinator is not available.";
    16 NotCoordinator "NOT_COORDINATOR" true "This node does not coordinate the group or transaction.";
    17 InvalidTopic "INVALID_TOPIC_EXCEPTION" false "The topic's name is invalid.";
    18 RecordListTooLarge "RECORD_LIST_TOO_LARGE" false "The batch is larger than a segment may be.";
    19 NotEnoughReplicas "NOT_ENOUGH_REPLICAS" true "Fewer replicas are in sync than min.insync.replicas asks for.";
    20 NotEnoughReplicasAfterAppend "NOT_ENOUGH_REPLICAS_AFTER_APPEND" true "The batch was appended, to fewer replicas than min.insync.replicas asks for.";
    21 InvalidRequiredAcks "INVALID_REQUIRED_ACKS" false "acks must be 0, 1 or -1 (all).";
    22 IllegalGeneration "ILLEGAL_GENERATION" false "The member's generation is not the group's.";
    23 InconsistentGroupProtocol "INCONSISTENT_GROUP_PROTOCOL" false "The member shares no protocol with its group.";
    24 InvalidGroupId "INVALID_GROUP_ID" false "The group id is invalid.";
    25 UnknownMemberId "UNKNOWN_MEMBER_ID" false "The group does not know the member.";
    26 InvalidSessionTimeout "INVALID_SESSION_TIMEOUT" false "The session timeout is outside of the configured bounds.";
    27 RebalanceInProgress "REBALANCE_IN_PROGRESS" false "The group is rebalancing: join again.";
    28 InvalidCommitOffsetSize "INVALID_COMMIT_OFFSET_SIZE" false "The committed offsets are too large.";
    29 TopicAuthorizationFailed "TOPIC_AUTHORIZATION_FAILED" false "Not authorized to access the topic.";
    30 GroupAuthorizationFailed "GROUP_AUTHORIZATION_FAILED" false "Not authorized to access the group.";
    31 ClusterAuthorizationFailed "CLUSTER_AUTHORIZATION_FAILED" false "Not authorized to act on the cluster.";
    32 InvalidTimestamp "INVALID_TIMESTAMP" false "A record's timestamp is out of the accepted range.";
    33 UnsupportedSaslMechanism "UNSUPPORTED_SASL_MECHANISM" false "The SASL mechanism is not supported.";
    34 IllegalSaslState "ILLEGAL_SASL_STATE" false "The SASL request does not fit the connection's state.";
    35 UnsupportedVersion "UNSUPPORTED_VERSION" false "The version of the request is not supported.";
    36 TopicAlreadyExists "TOPIC_ALREADY_EXISTS" false "A topic of this name exists.";
    37 InvalidPartitions "INVALID_PARTITIONS" false "The number of partitions is invalid.";
    38 InvalidReplicationFactor "INVALID_REPLICATION_FACTOR" false "The replication factor is below 1 or above the number of nodes.";
    39 InvalidReplicaAssignment "INVALID_REPLICA_ASSIGNMENT" false "The replica assignment is invalid.";
    40 InvalidConfig "INVALID_CONFIG" false "A configuration key or value is invalid.";
    41 NotController "NOT_CONTROLLER" true "This node is not the controller.";
    42 InvalidRequest "INVALID_REQUEST" false "The request contradicts itself or the protocol.";
    43 UnsupportedForMessageFormat "UNSUPPORTED_FOR_MESSAGE_FORMAT" false "The record format does not support the request.";
    44 PolicyViolation "POLICY_VIOLATION" false "A policy of the cluster forbids it.";
    45 OutOfOrderSequenceNumber "OUT_OF_ORDER_SEQUENCE_NUMBER" false "The producer's sequence numbers have a gap.";
    46 DuplicateSequenceNumber "DUPLICATE_SEQUENCE_NUMBER" false "The batch repeats an older one that is no longer remembered.";
    47 InvalidProducerEpoch "INVALID_PRODUCER_EPOCH" false "The producer's epoch is older than the one known.";
    48 InvalidTxnState "INVALID_TXN_STATE" false "The transaction is in a state that forbids it.";
    49 InvalidProducerIdMapping "INVALID_PRODUCER_ID_MAPPING" false "The producer id does not belong to this transactional id.";
    50 InvalidTransactionTimeout "INVALID_TRANSACTION_TIMEOUT" false "The transaction timeout is above the configured maximum.";
    51 ConcurrentTransactions "CONCURRENT_TRANSACTIONS" true "Another operation on the transaction is under way.";
    52 TransactionCoordinatorFenced "TRANSACTION_COORDINATOR_FENCED" false "A newer transaction coordinator is at work.";
    53 TransactionalIdAuthorizationFailed "TRANSACTIONAL_ID_AUTHORIZATION_FAILED" false "Not authorized to use the transactional id.";
    54 SecurityDisabled "SECURITY_DISABLED" false "Security is not enabled.";
    55 OperationNotAttempted "OPERATION_NOT_ATTEMPTED" false "The operation was not attempted, because another in the request failed.";
    56 KafkaStorageError "KAFKA_STORAGE_ERROR" true "The node cannot use its storage: it is full, or failed.";
    57 LogDirNotFound "LOG_DIR_NOT_FOUND" false "The data directory is not known.";
    58 SaslAuthenticationFailed "SASL_AUTHENTICATION_FAILED" false "Authentication failed.";
    59 UnknownProducerId "UNKNOWN_PRODUCER_ID" false "The producer id is not known.";
    60 ReassignmentInProgress "REASSIGNMENT_IN_PROGRESS" false "A reassignment of the partition is in progress.";
    61 DelegationTokenAuthDisabled "DELEGATION_TOKEN_AUTH_DISABLED" false "Delegation tokens are not enabled.";
    62 DelegationTokenNotFound "DELEGATION_TOKEN_NOT_FOUND" false "The delegation token is not known.";
    63 DelegationTokenOwnerMismatch "DELEGATION_TOKEN_OWNER_MISMATCH" false "The delegation token belongs to somebody else.";
    64 DelegationTokenRequestNotAllowed "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED" false "Delegation tokens cannot be requested on this connection.";
    65 DelegationTokenAuthorizationFailed "DELEGATION_TOKEN_AUTHORIZATION_FAILED" false "Not authorized to use delegation tokens.";
    66 DelegationTokenExpired "DELEGATION_TOKEN_EXPIRED" false "The delegation token has expired.";
    67 InvalidPrincipalType "INVALID_PRINCIPAL_TYPE" false "The principal's type is not supported.";
    68 NonEmptyGroup "NON_EMPTY_GROUP" false "The group has members.";
    69 GroupIdNotFound "GROUP_ID_NOT_FOUND" false "The group does not exist.";
    70 FetchSessionIdNotFound "FETCH_SESSION_ID_NOT_FOUND" true "The fetch session is not known.";
    71 InvalidFetchSessionEpoch "INVALID_FETCH_SESSION_EPOCH" true "The fetch session's epoch is not the expected one.";
    72 ListenerNotFound "LISTENER_NOT_FOUND" true "The leader has no listener of this name.";
    73 TopicDeletionDisabled "TOPIC_DELETION_DISABLED" false "Deleting topics is not enabled.";
    74 FencedLeaderEpoch "FENCED_LEADER_EPOCH" true "The request's leader epoch is older than the partition's.";
    75 UnknownLeaderEpoch "UNKNOWN_LEADER_EPOCH" true "The request's leader epoch is newer than the partition's.";
    76 UnsupportedCompressionType "UNSUPPORTED_COMPRESSION_TYPE" false "The codec is not supported in this version of the request.";
    77 StaleBrokerEpoch "STALE_BROKER_EPOCH" false "The node's session has been replaced by a newer one.";
    78 OffsetNotAvailable "OFFSET_NOT_AVAILABLE" true "The offset is not known yet after a change of leader.";
    79 MemberIdRequired "MEMBER_ID_REQUIRED" false "Join again with the member id of this answer.";
    80 PreferredLeaderNotAvailable "PREFERRED_LEADER_NOT_AVAILABLE" true "The preferred leader is not available.";
    81 GroupMaxSizeReached "GROUP_MAX_SIZE_REACHED" false "The group has as many members as it may have.";
    82 FencedInstanceId "FENCED_INSTANCE_ID" false "Another member took over this group instance id.";
    83 EligibleLeadersNotAvailable "ELIGIBLE_LEADERS_NOT_AVAILABLE" true "No replica that may lead is available.";
    84 ElectionNotNeeded "ELECTION_NOT_NEEDED" true "The partition has its leader already.";
    85 NoReassignmentInProgress "NO_REASSIGNMENT_IN_PROGRESS" false "No reassignment of the partition is in progress.";
    86 GroupSubscribedToTopic "GROUP_SUBSCRIBED_TO_TOPIC" false "The group is subscribed to the topic.";
    87 InvalidRecord "INVALID_RECORD" false "A record or batch breaks a rule of the log.";
    88 UnstableOffsetCommit "UNSTABLE_OFFSET_COMMIT" true "The committed offsets belong to a transaction that is not finished.";
    89 ThrottlingQuotaExceeded "THROTTLING_QUOTA_EXCEEDED" true "A quota is exceeded.";
    90 ProducerFenced "PRODUCER_FENCED" false "A newer producer with this transactional id is at work.";
    91 ResourceNotFound "RESOURCE_NOT_FOUND" false "The resource does not exist.";
    92 DuplicateResource "DUPLICATE_RESOURCE" false "The resource exists already.";
    93 UnacceptableCredential "UNACCEPTABLE_CREDENTIAL" false "The credential is not acceptable.";
    94 InconsistentVoterSet "INCONSISTENT_VOTER_SET" false "The voter set contradicts itself.";
    95 InvalidUpdateVersion "INVALID_UPDATE_VERSION" false "The feature version is invalid.";
    96 FeatureUpdateFailed "FEATURE_UPDATE_FAILED" false "The feature could not be updated.";
    97 PrincipalDeserializationFailure "PRINCIPAL_DESERIALIZATION_FAILURE" false "The principal cannot be read.";
    98 SnapshotNotFound "SNAPSHOT_NOT_FOUND" false "The snapshot is not known.";
    99 PositionOutOfRange "POSITION_OUT_OF_RANGE" false "The position is outside of the snapshot.";
    100 UnknownTopicId "UNKNOWN_TOPIC_ID" true "The topic id is not known.";
    101 DuplicateBrokerRegistration "DUPLICATE_BROKER_REGISTRATION" false "The node id is taken by a node that is alive.";
    102 BrokerIdNotRegistered "BROKER_ID_NOT_REGISTERED" false "The node id is not registered.";
    103 InconsistentTopicId "INCONSISTENT_TOPIC_ID" true "The topic id is not the one of this topic.";
    104 InconsistentClusterId "INCONSISTENT_CLUSTER_ID" false "The cluster id is not this cluster's.";
    105 TransactionalIdNotFound "TRANSACTIONAL_ID_NOT_FOUND" false "The transactional id is not known.";
    106 FetchSessionTopicIdError "FETCH_SESSION_TOPIC_ID_ERROR" true "The fetch session mixes topic ids and names.";
    107 IneligibleReplica "INELIGIBLE_REPLICA" false "The replica may not join the in-sync set.";
    108 NewLeaderElected "NEW_LEADER_ELECTED" false "The change elected a new leader.";
    109 OffsetMovedToTieredStorage "OFFSET_MOVED_TO_TIERED_STORAGE" false "The offset lies in tiered storage.";
    110 FencedMemberEpoch "FENCED_MEMBER_EPOCH" false "The member's epoch is older than the group's: join again.";
    111 UnreleasedInstanceId "UNRELEASED_INSTANCE_ID" false "The group instance id is still in use.";
    112 UnsupportedAssignor "UNSUPPORTED_ASSIGNOR" false "The group does not offer the assignor.";
    113 StaleMemberEpoch "STALE_MEMBER_EPOCH" false "The member's epoch is stale: try again with the current one.";
    114 MismatchedEndpointType "MISMATCHED_ENDPOINT_TYPE" false "The request was sent to the wrong kind of listener.";
    115 UnsupportedEndpointType "UNSUPPORTED_ENDPOINT_TYPE" false "The kind of listener is not supported.";
    116 UnknownControllerId "UNKNOWN_CONTROLLER_ID" false "The controller is not known.";
    117 UnknownSubscriptionId "UNKNOWN_SUBSCRIPTION_ID" false "The telemetry subscription is not known.";
    118 TelemetryTooLarge "TELEMETRY_TOO_LARGE" false "The telemetry is too large.";
    119 InvalidRegistration "INVALID_REGISTRATION" false "The registration is invalid.";
    120 TransactionAbortable "TRANSACTION_ABORTABLE" false "The transaction failed and must be aborted.";
    121 InvalidRecordState "INVALID_RECORD_STATE" false "The record's state forbids the acknowledgement.";
    122 ShareSessionNotFound "SHARE_SESSION_NOT_FOUND" true "The share session is not known.";
    123 InvalidShareSessionEpoch "INVALID_SHARE_SESSION_EPOCH" true "The share session's epoch is not the expected one.";
    124 FencedStateEpoch "FENCED_STATE_EPOCH" false "The share coordinator's epoch is older than the one known.";
    125 InvalidVoterKey "INVALID_VOTER_KEY" false "The voter key is invalid.";
    126 DuplicateVoter "DUPLICATE_VOTER" false "The voter is in the set already.";
    127 VoterNotFound "VOTER_NOT_FOUND" false "The voter is not in the set.";
    128 InvalidRegularExpression "INVALID_REGULAR_EXPRESSION" false "The regular expression is invalid.";
    129 RebootstrapRequired "REBOOTSTRAP_REQUIRED" false "The client must start again from its bootstrap addresses.";
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_names_one_error_and_back() {
        for error in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_code(error.code()), Some(*error));
        }
        assert_eq!(ErrorCode::from_code(0), None);
        assert_eq!(
            ErrorCode::OutOfOrderSequenceNumber.to_string(),
            "OUT_OF_ORDER_SEQUENCE_NUMBER (45)"
        );
    }
}
