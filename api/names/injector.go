package names

// MetricInjectorConfiguration is the gauge of the proxy injector that says whether its configuration is in use as it was read last
// (1), or an earlier one because the present one cannot be used (0). An addition of ours.
const MetricInjectorConfiguration = "proxy_inject_configuration_current"

// PortInjectorAdmin is where the proxy injector tells its metrics. Source: control plane chapter, section 14.1.
const PortInjectorAdmin = 9995
